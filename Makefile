# What there is to do here; bootstrap/ does it. STACK=local is the default.
STACK ?= local
# Through the environment, not by text: whatever a value holds, no shell reads it as a command.
export STACK DATA YES ROLE FOLLOW
bootstrap = python3 -m bootstrap

.PHONY: up preview down status logs env test test-long bench check docs fmt
.DEFAULT_GOAL := up

up preview down status logs env:
	@$(bootstrap) $@ "$$STACK"

test test-long bench check docs fmt:
	@$(bootstrap) $@
