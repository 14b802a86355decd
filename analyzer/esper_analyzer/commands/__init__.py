"""The subcommands of `esper-analyze`: each parses its options, calls one function of the package and prints."""
