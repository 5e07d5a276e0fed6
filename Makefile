# What there is to do here; bootstrap/ does it. STACK=local is the default.
STACK ?= local
# Through the environment, not by text: whatever a value holds, no shell reads it as a command.
export STACK DATA YES ROLE FOLLOW SYSTEM URL JSON FIX LONG FROM TO KEY_FILE ACCOUNT PASSWORD ARGS VERSION DATE
bootstrap = python3 -m bootstrap

of_a_stack = up preview down import status logs doctor backup restore backup-verify certificate certificate-dry-run \
	trust-ca untrust-ca reset-admin-password env
of_the_checkout = test test-long bench check docs fmt release help
.PHONY: $(of_a_stack) $(of_the_checkout)
.DEFAULT_GOAL := up

$(of_a_stack):
	@$(bootstrap) $@ "$$STACK"

$(of_the_checkout):
	@$(bootstrap) $@
