"""What is stored of bandits and their segments."""
