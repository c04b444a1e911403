{ builder, args, system }: _: throw "soon"
