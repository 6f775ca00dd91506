"""`run`: start a command once Redis is ready, and stay beside it."""
