"""The bundled table and the generator that made it."""
