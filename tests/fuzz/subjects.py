"""Every input that is fuzzed."""

from tests.fuzz import (
    command_inputs,
    http_inputs,
    probe_inputs,
    redis_inputs,
    setting_inputs,
    text_inputs,
)

SUBJECTS = (
    *redis_inputs.SUBJECTS,
    *http_inputs.SUBJECTS,
    *probe_inputs.SUBJECTS,
    *command_inputs.SUBJECTS,
    *text_inputs.SUBJECTS,
    *setting_inputs.SUBJECTS,
)
