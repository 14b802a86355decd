"""`python -m esper_analyzer` is `esper-analyze`."""

from esper_analyzer.cli import main

if __name__ == "__main__":
    main(prog_name="esper-analyze")
