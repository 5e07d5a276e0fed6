"""The import path of this project's folders, in a checkout as in an installation.

In a checkout they are links: the folders stay at the top, where Pulumi's program is, and nothing of them goes by a name
such as `settings` that a program next to it may have as well.
"""
