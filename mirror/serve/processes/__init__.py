"""The processes that answer: their set-up, their supervisor, and one of them."""
