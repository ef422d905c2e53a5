"""Causal language models of transformers at tiny size, one row each: the model type and what its config needs.

Every config gets the sizes of ``USUAL`` that it knows by the names that it uses, then what stands in its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers as T

WORDS = 64
USUAL: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": None,
}
_HEADS_ALL = {"num_key_value_heads": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
_ROUTED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1}
_SSM = {
    "mamba_chunk_size": 8,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_d_head": 16,
    "mamba_n_heads": 4,
}
_DECODER = {"is_decoder": True}
_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 8.0, 16.0, 32.0],
    "original_max_position_embeddings": 8,
}

ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "bamba": {**_SSM, "mamba_n_groups": 1, "attn_layer_indices": [1]},
    "bert": _DECODER,
    "bert-generation": _DECODER,
    "biogpt": {},
    "bitnet": {},
    "bloom": {"n_head": 4},
    "codegen": {"n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4, "n_inner": 48, "n_positions": 64},
    "cohere": {},
    "cohere2": {"sliding_window": 6},
    "ctrl": {"n_embd": 32, "dff": 48, "n_positions": 64},
    "cwm": {"sliding_window": 6},
    "deepseek_v2": {**_LATENT, **_ROUTED, "moe_intermediate_size": 16, "num_experts_per_tok": 2},
    "deepseek_v3": {**_LATENT, **_ROUTED, "moe_intermediate_size": 16, "num_experts_per_tok": 2},
    "diffllama": {},
    "doge": {},
    "dots1": {**_ROUTED, "moe_intermediate_size": 16, "num_experts_per_tok": 2},
    "electra": {**_DECODER, "embedding_size": 16},
    "ernie4_5": {},
    "exaone4": {"sliding_window": 6},
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True},
    "falcon_h1": {**_SSM, "mamba_n_groups": 1, "mamba_d_ssm": 64},
    "falcon_mamba": {"state_size": 8, "use_cache": True},
    "flex_olmo": {**_EXPERTS},
    "gemma": {},
    "gemma2": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "glm": {},
    "glm4": {},
    "glm4_moe": {**_ROUTED, "moe_intermediate_size": 16, "num_experts_per_tok": 2},
    "gpt2": {"n_inner": 48},
    "gpt_bigcode": {"n_inner": 48},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 6, "num_layers": 2, "num_heads": 4},
    "gpt_neox": {},
    "gpt_neox_japanese": {},
    "gpt_oss": {**_LOCAL, "sliding_window": 6},
    "gptj": {"n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 4, "n_positions": 64},
    "granite": {},
    "granitemoe": {**_LOCAL},
    "granitemoehybrid": {**_SSM, "mamba_n_groups": 1, "layer_types": ["mamba", "attention"], **_LOCAL,
                         "shared_intermediate_size": 16},
    "helium": {},
    "hunyuan_v1_dense": {},
    "jais2": {},
    "jamba": {"num_experts": 2, "mamba_d_state": 8, "mamba_dt_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
              "use_mamba_kernels": False},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "llama": {},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "minimax": {**_LOCAL, "layer_types": ["linear_attention", "full_attention"], "block_size": 4},
    "ministral": {"sliding_window": 6},
    "mistral": {"sliding_window": 6},
    "mixtral": {**_LOCAL},
    "modernbert-decoder": {"pad_token_id": 2, "local_attention": 6, "global_attn_every_n_layers": 2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "expansion_ratio": 2},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 6},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "openai-gpt": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "persimmon": {},
    "phi": {},
    "phi3": {"rope_parameters": _LONG, "original_max_position_embeddings": 8},
    "phimoe": {**_LOCAL},
    "qwen2": {},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3": {},
    "qwen3_moe": {**_EXPERTS},
    "qwen3_next": {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 16,
                   "layer_types": ["linear_attention", "full_attention"]},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 6, "num_hidden_layers": 3},
    "roberta": {**_DECODER, "pad_token_id": 2},
    "roformer": {**_DECODER, "embedding_size": 32},
    "rwkv": {"attention_hidden_size": 32, "context_length": 64},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": 6},
    "vaultgemma": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "xglm": {"d_model": 32, "ffn_dim": 48, "attention_heads": 4, "num_layers": 2},
    "zamba2": {**_SSM, "mamba_ngroups": 1, "n_mamba_heads": 4, "mamba_headdim": 16, "hybrid_layer_ids": [1],
               "layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1, "attention_head_dim": 16,
               "num_key_value_heads": 4, "chunk_size": 8, "use_mem_rope": True},
}  # fmt: skip


def tiny(model_type: str, seed: int = 0) -> Any:
    """A random model of a type, in eval mode."""
    config = T.AutoConfig.for_model(model_type, **(known(model_type) | dict(ARCHITECTURES[model_type])))
    torch.manual_seed(seed)
    return T.AutoModelForCausalLM.from_config(config).eval()


def known(model_type: str) -> dict[str, Any]:
    """Those of the usual sizes that a config of this type has a field for, under any of its names."""
    plain = T.AutoConfig.for_model(model_type)
    names = set(plain.to_dict()) | set(plain.attribute_map)
    return {name: value for name, value in USUAL.items() if name in names}
