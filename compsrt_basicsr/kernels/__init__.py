"""The C++ kernels: source, build, and the library as other folders call it.

| module       | holds                                                                      |
|--------------|----------------------------------------------------------------------------|
| `sources/`   | the C++ source: integer layers, attention, fake quantization, selective scan |
| `build`      | compilation at first use, the cache, the switch `COMPSRT_KERNELS`           |
| `trust`      | whether a compiled file may be loaded                                       |
| `signatures` | the functions of the library and their types                                |
| `loaded`     | `kernels()`, the loaded library; calls of it on several threads             |
"""
