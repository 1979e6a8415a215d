"""TRL's trainers with a curriculum, and the mixins they are made of."""
