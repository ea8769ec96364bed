"""What runs have to say side by side: tables, a page of charts, a list. Read without torch."""
