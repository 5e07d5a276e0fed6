# What there is to do here; cli/ does it. STACK=local is the default.
STACK ?= local
# Through the environment, not by text: whatever a value holds, no shell reads it as a command.
export STACK DATA ENGINE YES ROLE FOLLOW SYSTEM URL JSON FIX LONG FROM TO KEY_FILE ACCOUNT PASSWORD ARGS VERSION DATE
# Some machines have one under the name of its version only.
python := $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell command -v $(name))) python3)
command = $(python) -m open_webui_edge.cli

of_a_stack = up preview pull down import status logs doctor backup restore backup-verify certificate certificate-dry-run \
	trust-ca untrust-ca reset-admin-password env
of_the_checkout = test test-long test-unit bench check docs screenshots fmt lock release help
.PHONY: $(of_a_stack) $(of_the_checkout)
.DEFAULT_GOAL := up

$(of_a_stack):
	@$(command) $@ "$$STACK"

$(of_the_checkout):
	@$(command) $@
