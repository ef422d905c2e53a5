ALL_IMAGES=("resnet20","vit"); IMAGE_REQUESTS=("class","tenth")
def build_images(*a): raise NotImplementedError
