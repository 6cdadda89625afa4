"""`python -m maxim_deploy COMMAND ...`, the same as `maxim-deploy COMMAND ...`."""

from maxim_deploy.cli.main import main

if __name__ == "__main__":
    main()
