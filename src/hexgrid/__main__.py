"""`python -m hexgrid` is the command `hexgrid`."""

from hexgrid.cli import main

main()
