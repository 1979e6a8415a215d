"""What is installed, what works on this machine, and what to do about the rest."""
