"""Restoring files, images and videos, one by one or folders of them; public in `maxim_deploy`."""
