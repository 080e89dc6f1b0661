"""`python -m etc_data` is the `etc-data` command."""

from etc_data.cli.main import main

if __name__ == "__main__":
    main()
