"""The parts of `jobs.bench gpu`. They import neither Ray, FAISS, WebDataset nor MLflow: a machine with a GPU may have
PyTorch and little else."""
