"""The supervised system of the M3D paper: denoised feature fusion (DFFM), missing modality construction (MMCM)."""
