"""The rules of memory: plain functions over a Context. No SQL, no HTTP, no environment, no clock of its own."""
