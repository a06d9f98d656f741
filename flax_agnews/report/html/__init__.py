"""The page `report.html`: what it shows (`content`), and how it becomes one self-contained file (`page`)."""
