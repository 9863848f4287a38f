"""Block work over volumes: membrane found, refined, verified, repaired, written out."""
