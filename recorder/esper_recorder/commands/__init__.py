"""The subcommands of `esper-rec`: each parses its options, calls one function of the package and prints."""
