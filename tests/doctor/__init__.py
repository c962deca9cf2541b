"""What is found about a watchlist before it runs, and while it does."""
