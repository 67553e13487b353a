"""A run as one HTML file: every figure, table and image inside it, nothing fetched from anywhere, no server needed.

``concept-monitor report RUN --out file.html`` makes it, or ``python -m dashboard.report``.
"""
