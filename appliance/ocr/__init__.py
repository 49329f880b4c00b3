"""Pages that are pictures, read: engine, layout, and the confined process they live in."""
