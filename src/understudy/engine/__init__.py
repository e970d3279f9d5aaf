"""The engine floor: claims jobs, drives runs, keeps and tails their logs."""
