"""What keeps the application, its environment and its log handlers from harming us."""
