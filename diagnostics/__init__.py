"""The doctor: asks a running deployment what a user would ask, and answers with the fix.

It knows neither Pulumi nor this project's components: its caller passes the expectations as plain data.
"""
