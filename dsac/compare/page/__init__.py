"""The page that report=true writes: its views, charts and films, and the style and script of the browser."""
