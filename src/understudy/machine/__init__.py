"""The pure floor: no await, no clock, no input or output."""
