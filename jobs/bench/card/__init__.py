"""The parts of `jobs.bench gpu`. They import neither Ray, FAISS, WebDataset nor MLflow: a machine that is lent for an
hour has PyTorch and little else."""
