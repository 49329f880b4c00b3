"""What `kura-installer` asks of a release when it takes the place of another (`kura release …`)."""
