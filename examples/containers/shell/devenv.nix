# The development environment as a container: `nixply container run shell`.
{
  name = "simple-python-app";

  languages.python.enable = true;
}
