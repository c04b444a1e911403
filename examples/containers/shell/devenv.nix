{
  name = "simple-python-app";

  languages.python.enable = true;
}
