"""A fleet between today's users and the next model: chip-hours by hour, as a linear programme solved by HiGHS."""
