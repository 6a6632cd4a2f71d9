"""The file that MLflow copies into a model's folder and runs when the model is loaded."""

from mlflow.models import set_model

from pipeline.runs.package import Model

set_model(Model())
