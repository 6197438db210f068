from m3dllm.system import SystemSpec

SPEC = SystemSpec(
    name="capitals",
    factory="capitals.system:Capitals",
    config="capitals.system:Config",
    summary="every capitalized run is a PER",
    tasks={"entity"},
    modalities={"text"},
    languages={"en"},
)
