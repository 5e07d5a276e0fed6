"""The doctor: asks a running deployment what a user would ask, and answers with the fix.

It knows neither Pulumi nor this project's components: whoever starts it says in plain data what is expected.
"""
