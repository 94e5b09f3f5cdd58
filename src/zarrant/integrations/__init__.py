"""Other libraries on top of Zarrant. Nothing imports these modules but their users; each needs its library."""
