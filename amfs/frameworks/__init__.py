"""What every integration builds on, and knows of no framework: one definition each, so that all agree."""
