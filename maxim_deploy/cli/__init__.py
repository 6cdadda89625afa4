"""The commands, a thin module each. Heavy modules are imported inside the command."""
