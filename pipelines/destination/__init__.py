"""What dlt leaves to do for a destination: questions, loads that failed or were killed, copies for readers, lakes."""
