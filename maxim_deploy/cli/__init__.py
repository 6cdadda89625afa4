"""The commands: one thin file each, with everything heavy imported inside the command's body."""
