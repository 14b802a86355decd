"""`python -m esper_recorder` is `esper-rec`."""

from esper_recorder.cli import main

if __name__ == "__main__":
    main(prog_name="esper-rec")
