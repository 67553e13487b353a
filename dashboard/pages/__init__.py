"""The pages' static parts: what stands on them before any data comes. The callbacks fill them."""
