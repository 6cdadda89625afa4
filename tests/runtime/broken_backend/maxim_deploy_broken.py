"""A backend whose library cannot be loaded."""

raise OSError("libbroken.so: cannot open shared object file")
