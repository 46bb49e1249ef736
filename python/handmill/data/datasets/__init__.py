"""Real data that ships with handmill, and readers of files the user has."""
