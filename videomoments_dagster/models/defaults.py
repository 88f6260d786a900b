"""The models that the registry starts with. Where they run is for the operator to say: `ssh_host`, or the settings.

Local ports are left to the system: each worker process has tunnels of its own, and a fixed port has one owner.
"""

from videomoments_dagster.models.entry import ModelEntry

_CHAT = {"kind": "chat", "endpoint": "/v1/chat/completions"}
_REMOTE = {
    "parakeet": {"kind": "speech", "endpoint": "/transcribe", "remote_host": "worker-7", "remote_port": 8006},
    "minimax": _CHAT | {"remote_host": "worker-7", "remote_port": 7104, "model_name": "MiniMax"},
    "qwen3_omni": _CHAT | {"remote_host": "worker-9", "remote_port": 8002, "model_name": "Qwen3-Omni"},
    "qwen3_vl_fp8": _CHAT
    | {"remote_host": "worker-16", "remote_port": 8010, "model_name": "Qwen3-VL-FP8", "supports_video": True},
}
_FALLBACKS = {"minimax": "builtin_moments", "qwen3_omni": "minimax", "qwen3_vl_fp8": "minimax"}

DEFAULTS: dict[str, ModelEntry] = {
    "builtin_speech": ModelEntry.parse("builtin_speech", {"kind": "speech"}),
    "builtin_moments": ModelEntry.parse("builtin_moments", {"kind": "chat"}),
    **{key: ModelEntry.parse(key, fields | {"fallback": _FALLBACKS.get(key, "")}) for key, fields in _REMOTE.items()},
}
"""By key. `parakeet` has no fallback: a poor transcript would spoil all that comes after it."""
