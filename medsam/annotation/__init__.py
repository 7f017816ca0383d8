"""The data engine: people and the model make the data together. Its door is `project.AnnotationProject`."""
