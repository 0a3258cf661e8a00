"""Sources of images and labels, their transforms, and the streams that feed a step."""
